"""What a diagnosis is judged on, written before the detector: networks with one planted fault, and healthy ones.

No detector is imported here. That a fault is really there, and gone in its twin, is seen with plain torch
(`test_signals.py`).
"""
