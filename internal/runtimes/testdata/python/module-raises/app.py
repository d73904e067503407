def start():
    return {}["key"]


print("starting")
start()


def handler(event, context):
    pass
