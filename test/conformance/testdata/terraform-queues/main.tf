terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  default_tags {
    tags = { team = "flies" }
  }
}

variable "delay" {
  default = 0
}

data "aws_caller_identity" "me" {}

resource "aws_sqs_queue" "dead" {
  name                      = "terraform-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = false
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [replace(aws_sqs_queue.dead.arn, "terraform-dead", "terraform")]
  })
}

resource "aws_sqs_queue" "queue" {
  name                       = "terraform"
  visibility_timeout_seconds = 45
  message_retention_seconds  = 86400
  max_message_size           = 2048
  delay_seconds              = var.delay
  receive_wait_time_seconds  = 10
  kms_master_key_id          = "alias/aws/sqs"
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 4 + var.delay })
  tags                       = { kind = "queue", delay = var.delay }
}

data "aws_iam_policy_document" "plain" {
  statement {
    sid       = "events"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.plain.arn]
    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.me.account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "plain" {
  queue_url = aws_sqs_queue.plain.id
  policy    = data.aws_iam_policy_document.plain.json
}

resource "aws_sqs_queue" "dead_fifo" {
  name       = "terraform-dead.fifo"
  fifo_queue = true
  redrive_allow_policy = jsonencode({
    redrivePermission = "allowAll"
  })
}

resource "aws_sqs_queue" "fifo" {
  name                        = "terraform.fifo"
  fifo_queue                  = true
  content_based_deduplication = var.delay == 0
  deduplication_scope         = "messageGroup"
  fifo_throughput_limit       = "perMessageGroupId"
  redrive_policy              = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_fifo.arn, maxReceiveCount = 3 })
}

resource "aws_sqs_queue" "plain" {
  name = "terraform-plain"
}

data "aws_sqs_queue" "found" {
  name       = "terraform"
  depends_on = [aws_sqs_queue.queue]
}

data "aws_sqs_queues" "all" {
  queue_name_prefix = "terraform"
  depends_on        = [aws_sqs_queue.queue, aws_sqs_queue.dead, aws_sqs_queue.fifo, aws_sqs_queue.dead_fifo, aws_sqs_queue.plain]
}

output "found" {
  value = "${data.aws_sqs_queue.found.arn == aws_sqs_queue.queue.arn} ${length(data.aws_sqs_queues.all.queue_urls)}"
}
