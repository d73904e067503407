resource "aws_iam_role_policy_attachment" "queues" {
  role       = aws_iam_role.role.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"
}

resource "aws_iam_role_policy_attachment" "streams" {
  role       = aws_iam_role.role.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole"
}

resource "aws_sqs_queue" "source" {
  name                       = "conformance-source"
  visibility_timeout_seconds = 60
}

resource "aws_sqs_queue" "ordered" {
  name                        = "conformance-source.fifo"
  fifo_queue                  = true
  content_based_deduplication = true
}

resource "aws_kinesis_stream" "source" {
  name        = "conformance-source"
  shard_count = 1
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn                   = aws_sqs_queue.source.arn
  function_name                      = aws_lambda_function.function.arn
  batch_size                         = 100
  maximum_batching_window_in_seconds = 5
  enabled                            = var.memory == 128
  function_response_types            = ["ReportBatchItemFailures"]
  # What is changed is taken away, and provisioned mode takes the place of a limit.
  dynamic "filter_criteria" {
    for_each = var.memory == 128 ? [1] : []
    content {
      filter {
        pattern = jsonencode({ body = { name = [{ prefix = "x" }] } })
      }
    }
  }
  dynamic "scaling_config" {
    for_each = var.memory == 128 ? [1] : []
    content {
      maximum_concurrency = 2
    }
  }
  dynamic "provisioned_poller_config" {
    for_each = var.memory == 128 ? [] : [1]
    content {
      minimum_pollers = 2
      maximum_pollers = 3
    }
  }
  dynamic "metrics_config" {
    for_each = var.memory == 128 ? [1] : []
    content {
      metrics = ["EventCount"]
    }
  }
  tags       = { kind = "mapping" }
  depends_on = [aws_iam_role_policy_attachment.queues]
}

resource "aws_lambda_event_source_mapping" "ordered" {
  event_source_arn = aws_sqs_queue.ordered.arn
  function_name    = aws_lambda_alias.live.arn
  depends_on       = [aws_iam_role_policy_attachment.queues]
}

resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn               = aws_kinesis_stream.source.arn
  function_name                  = aws_lambda_function.function.function_name
  starting_position              = "LATEST"
  parallelization_factor         = var.memory / 128
  bisect_batch_on_function_error = true
  maximum_retry_attempts         = 3
  maximum_record_age_in_seconds  = 60
  dynamic "destination_config" {
    for_each = var.memory == 128 ? [1] : []
    content {
      on_failure {
        destination_arn = aws_sqs_queue.source.arn
      }
    }
  }
  depends_on = [aws_iam_role_policy_attachment.streams, aws_iam_role_policy.inline]
}

resource "aws_lambda_event_source_mapping" "window" {
  event_source_arn            = aws_kinesis_stream.source.arn
  function_name               = aws_lambda_alias.live.arn
  starting_position           = "AT_TIMESTAMP"
  starting_position_timestamp = "2026-01-01T00:00:00Z"
  tumbling_window_in_seconds  = var.memory / 8
  depends_on                  = [aws_iam_role_policy_attachment.streams]
}

output "mapping" {
  value = aws_lambda_event_source_mapping.stream.uuid
}
