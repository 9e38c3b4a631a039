"""Checkers for the exercises, one module a notebook.

Each takes the reader's answer, a number or a function, and says whether it is right and why, or
gives a hint for that very mistake; from the second wrong answer on a nearer one too. None of them
ever raises: an exercise left out, or one that goes wrong, must not stop a notebook.
"""
