"""A second corpus, by a second examiner, for the last judgement: no detector was run on it, or changed for it, before.

Most faults are what people report in forums and issue trackers; the notes name the thread where there is one. The
machinery is that of the first corpus (`tests/corpora/signals/fault.py`).
"""
