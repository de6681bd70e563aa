"""A third corpus, by a third examiner: twenty faults that every course on deep learning has, and ten ordinary networks.

No detector was run on it, or changed for it, before it was committed, and the examiner had not read the detector. The
machinery is that of the first corpus (`tests/corpora/signals/fault.py`).
"""
