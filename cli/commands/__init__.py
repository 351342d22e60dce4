"""One file a command, each exporting ``run``; ``cli.main.COMMANDS`` names them and imports the one that is called."""
