"""Many runs of one command: which they are, what each leaves behind, and what it gets of the machine. No torch here."""
