"""A run: a cost, a space and a method, moved turn by turn, kept, watched and stopped for a reason.

Only this floor calls costs, keeps files and starts workers; how points are chosen is decided below, in `methods/`.
"""
