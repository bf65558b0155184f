"""What a run tells about itself, without telling its secrets.

redact    exact values and the forms they travel in, taken out of text and bytes
logs      one file of JSON lines a run, redacted and bounded
metrics   the counters every connector reports
"""
