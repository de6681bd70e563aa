"""Kept runs as one page that opens offline: `page` says them in words, `figures` draws them.

Nothing here searches, prints or writes a file. Every text of a run is untrusted, and escaped where it is shown.
"""
