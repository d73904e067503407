def handler(event, context):
    print("got", event)
    return {"event": event, "text": "käse", "none": None, "list": [1, 2.5, True]}
