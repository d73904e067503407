"""Loops: functions that cause their own invocations through queues and topics, with the AWS SDK in the function as it comes."""

import functools
import io
import json
import os
import zipfile

import botocore
import dateutil
import jmespath
import six
import urllib3

from event_sources import MappingCase
from queueing import queue_arn, queue_name
from suite import client, eventually, function_arn, lam, log_events

sns = client("sns")

# Passes what it gets on to where it came from, as often as the message says.
CODE = """
import json, os
import botocore.session
session = botocore.session.get_session()
sqs = session.create_client('sqs') if os.environ['TO'].startswith('http') else None
sns = None if sqs else session.create_client('sns')
def handler(event, context):
    for r in event['Records']:
        body = r['body'] if 'body' in r else r['Sns']['Message']
        print('message', body, os.environ['_X_AMZN_TRACE_ID'])
        word, left = body.split()
        if int(left) > 0:
            body = f'{word} {int(left) - 1}'
            if sqs:
                sqs.send_message(QueueUrl=os.environ['TO'], MessageBody=body)
            else:
                sns.publish(TopicArn=os.environ['TO'], Message=body)
"""


@functools.cache
def sdk():
    """The code with the low-level SDK for Python and its descriptions of two services."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr("app.py", CODE)
        z.write(six.__file__, "six.py")
        for package in (botocore, dateutil, jmespath, urllib3):
            top = os.path.dirname(package.__file__)
            for directory, _, files in os.walk(top):
                inside = os.path.relpath(directory, top).split(os.sep)
                if package is botocore and inside[0] == "data" and inside[1:2] not in ([], ["sqs"], ["sns"]):
                    continue
                for f in files:
                    if not f.endswith(".pyc"):
                        z.write(os.path.join(directory, f), os.path.join(package.__name__, *inside, f))
    return out.getvalue()


class Loops(MappingCase):
    def passes(self, to, **arguments):
        return self.create(Runtime="python3.11", Handler="app.handler", Code={"ZipFile": sdk()}, Timeout=8, MemorySize=512,
                           Environment={"Variables": {"TO": to}}, **arguments)

    def ran(self, function, word, least):
        """What the function printed of the messages of a word, in order, once it is that much."""

        def read():
            found = [m.split() for m in log_events("/aws/lambda/" + function, "message ") if m.startswith("message " + word)]
            return found if len(found) >= least else None

        return eventually(read, 40) or []

    def test_through_a_queue(self):
        queue, dead = self.piped(receives=1, VisibilityTimeout="8")
        function = self.passes(queue)
        self.map(function, queue_arn(queue_name(queue)))
        self.send(queue, "loop 100")
        ran = self.ran(function, "loop", 16)
        self.assertEqual([f"{n}" for n in range(100, 84, -1)], [r[2] for r in ran])
        self.assertEqual(list(range(1, 17)), [int(r[3].rpartition(":")[2]) for r in ran])
        self.assertEqual(1, len({r[3].partition(";")[0] for r in ran}), "one trace")
        # Other messages go on while the one that was cut waits for its redrive.
        self.send(queue, "other 2")
        self.assertEqual(3, len(self.ran(function, "other", 3)))
        cut = self.message(dead)
        self.assertEqual("loop 84", cut["Body"])
        self.assertRegex(cut["Attributes"]["AWSTraceHeader"], "Lineage=1:[0-9a-f]{8}:16$")
        self.assertEqual(16, len(self.ran(function, "loop", 16)))

    def test_through_a_topic(self):
        topic = sns.create_topic(Name=self.name("t"))["TopicArn"]
        self.addCleanup(lambda: sns.delete_topic(TopicArn=topic))
        failed = self.queue()
        function = self.passes(topic)
        lam.put_function_event_invoke_config(FunctionName=function, DestinationConfig={"OnFailure": {"Destination": queue_arn(queue_name(failed))}})
        lam.add_permission(FunctionName=function, StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com", SourceArn=topic)
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn(function))
        sns.publish(TopicArn=topic, Message="loop 100")
        record = json.loads(self.message(failed)["Body"])
        self.assertEqual("RecursiveInvocation", record["requestContext"]["condition"])
        self.assertEqual("loop 84", record["requestPayload"]["Records"][0]["Sns"]["Message"])
        self.assertEqual(16, len(self.ran(function, "loop", 16)))

    def test_allowed(self):
        queue = self.queue(VisibilityTimeout="8")
        function = self.passes(queue)
        self.assertEqual("Terminate", lam.get_function_recursion_config(FunctionName=function)["RecursiveLoop"])
        self.assertEqual("Allow", lam.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")["RecursiveLoop"])
        self.map(function, queue_arn(queue_name(queue)))
        self.send(queue, "loop 24")
        ran = self.ran(function, "loop", 25)
        self.assertEqual(25, len(ran))
        self.assertRegex(ran[-1][3], ":25$")
        self.assertTrue(eventually(lambda: self.counts(queue) == (0, 0, 0)))
