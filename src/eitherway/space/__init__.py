"""What may vary: variables in the user's units, and the search coordinates that every method sees.

Bounds, scales, grids and conditions are this floor's business; how to move in the coordinates is not.
"""
