"""Methods that move named variables: one algorithm a file, NumPy float64, never torch."""
