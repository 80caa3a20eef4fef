"""The command line: from arguments to a stage, and from its result to the screen.

main.py handles errors and exit codes. commands.py makes the subcommands from stages.py and params.py. resolve.py gets
the config of a command, and execute.py runs it. console.py prints. completion.py, notebook.py and training_view.py are
other views for the user.
"""
