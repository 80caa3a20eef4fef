"""A model behind OpenAI's HTTP interface.

scheduler.py generates for many requests at once, requests.py says what a request may contain, jobs.py makes work of it,
answers.py writes the answers, app.py has the endpoints, guard.py refuses what must not reach them, and server.py runs
all of it.
"""
