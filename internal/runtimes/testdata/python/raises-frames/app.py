class Broken(Exception):
    pass


def helper():
    raise Broken("it broke\nin two lines")


def handler(event, context):
    helper()
