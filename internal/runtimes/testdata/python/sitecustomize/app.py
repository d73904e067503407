import builtins


def handler(event, context):
    return builtins.CUSTOMIZED
