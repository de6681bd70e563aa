"""Starting weights as pure mathematics: what to draw, and with which gain, scale and bias, so that a signal survives.

Each file is one scheme or what schemes share; `choose` says which one an activation and a depth call for. Nothing here
knows models: callers bring sizes, activations and generators, and write the tensors where they belong.
"""
