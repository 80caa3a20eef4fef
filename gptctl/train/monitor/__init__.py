"""What is recorded and shown while a model trains, and the detection of ranks that are stuck.

monitor.py writes events.jsonl, and feeds loggers and the live view. device_stats.py, stragglers.py and sample_text.py
supply what it shows. heartbeat_writer.py, heartbeat.py and watchdog.py find stuck ranks.
"""
