"""Bytes to arrays and back: what the items of ``modalities`` read and write with.

``source`` reads bytes within limits and says what they are; ``pictures``, ``tables`` and ``containers`` decode and
encode them.
"""
