"""Load on a server: clients that stream recordings at real time, and what they saw.

``plan`` says who sends what when, ``player`` is one client, ``worker`` the process that runs a share of
them, ``score`` what a client measured, ``run`` one run with so many clients, ``limit`` the search for how
many a server carries. The clients know the server by its protocol only.
"""
