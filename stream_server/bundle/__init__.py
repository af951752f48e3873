"""One archive with everything that a machine without network needs to run the server.

``build`` collects wheels with pip, ``wheels`` reads and selects them, ``contents`` says what is in the
archive, ``sbom`` describes it, ``archive`` writes it. What installs it is ``assets/bundle/install.sh``.
Connects nowhere itself: only pip, which ``build`` starts, may ask the package index that it is set up for.
"""
