"""What only the notebooks need: profiles, and checkers for the exercises."""
