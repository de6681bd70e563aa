"""The ground floor: errors, keys, files, the one look of our figures.

Nothing here knows what a space, a method or a run is. Nothing here imports torch or matplotlib before it is asked to.
"""
