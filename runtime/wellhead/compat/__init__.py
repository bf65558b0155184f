"""What a release changes for those who use it: its surface, the difference to another release, and the judgement."""
