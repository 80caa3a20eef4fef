"""The command line: from arguments to a stage, and from its result to the screen.

main.py turns errors into exit codes. commands.py makes the subcommands from stages.py and params.py. resolve.py
computes the config of a command, and execute.py runs it. console.py prints, notebook.py and training_view.py show
progress, and completion.py completes words in a shell.
"""
