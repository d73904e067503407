import os


def handler(event, context):
    return [os.environ["WRAPPED"], os.environ["ARGS"]]
