"""What the commands print for programs: the JSON documents of docs/json.md."""
