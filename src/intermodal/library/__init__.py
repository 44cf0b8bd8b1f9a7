"""The store on disk: add items of every modality, search them by any item, update.

``library`` is the door. Below it: ``sources``, ``reading``, ``windows`` and ``ingest`` bring items in; ``store`` is the
contract of the backend and ``table`` keeps it, with ``durable`` for what survives a power cut; ``segments``, ``scan``,
``view`` and ``calibrate`` answer searches; ``filters`` says what ``where=`` means.
"""
