"""What is seen and recorded while a model trains.

monitor.py writes events.jsonl and feeds views and loggers, with device_stats.py, stragglers.py and sample_text.py.
heartbeat_writer.py, heartbeat.py and watchdog.py find ranks that are stuck.
"""
