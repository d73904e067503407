resource "aws_kinesis_stream" "events" {
  name                      = "terraform-events"
  shard_count               = var.memory == 128 ? 1 : 2
  retention_period          = var.memory == 128 ? 24 : 48
  shard_level_metrics       = ["IncomingBytes", "OutgoingBytes"]
  enforce_consumer_deletion = true
  tags                      = { kind = "stream" }
}

resource "aws_kinesis_stream" "on_demand" {
  name = "terraform-on-demand"
  stream_mode_details {
    stream_mode = "ON_DEMAND"
  }
}

resource "aws_kinesis_stream_consumer" "audit" {
  name       = "audit"
  stream_arn = aws_kinesis_stream.events.arn
}

resource "aws_kinesis_resource_policy" "events" {
  resource_arn = aws_kinesis_stream.events.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "write"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.role.arn }
      Action    = ["kinesis:PutRecord", "kinesis:PutRecords"]
      Resource  = aws_kinesis_stream.events.arn
    }]
  })
}

data "aws_kinesis_stream" "events" {
  name       = aws_kinesis_stream.events.name
  depends_on = [aws_kinesis_stream.events]
}
