count = 0


def handler(event, context):
    global count
    count += 1
    if event == "fail":
        raise Exception("after %d" % count)
    return count
