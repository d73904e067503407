import sys


def handler(event, context):
    print("one\ntwo")
    print("error", file=sys.stderr)
    sys.stdout.write("no line break")
    return None
