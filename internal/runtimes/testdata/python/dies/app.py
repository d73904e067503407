import os
import signal


def handler(event, context):
    print("partial line", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
