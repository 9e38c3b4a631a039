"""What a computer brings: hardware, several processes, a screen for progress bars."""
