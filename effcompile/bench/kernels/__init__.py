"""Kernel families against the strongest peers: cases by family, one way to compare them.

A family adds a module ``<family>_cases.py`` here with a function ``cases()``; nothing else
has to name it.
"""
