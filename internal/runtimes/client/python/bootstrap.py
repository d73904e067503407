"""Starts the runtime interface client; AWS's has the same name and place. Everything else is in mayfly_runtime, which
has its bytecode beside it, while a script is compiled at every start."""

from mayfly_runtime import client

client.main()
