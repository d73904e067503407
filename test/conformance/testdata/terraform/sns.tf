resource "aws_sns_topic" "orders" {
  name              = "orders"
  display_name      = "Orders"
  signature_version = 2
  tracing_config    = "PassThrough"
  tags              = { department = "sales" }
  delivery_policy = jsonencode({
    http = {
      defaultHealthyRetryPolicy = {
        minDelayTarget     = 20
        maxDelayTarget     = 20
        numRetries         = 3
        numMaxDelayRetries = 0
        numNoDelayRetries  = 0
        numMinDelayRetries = 0
        backoffFunction    = "linear"
      }
      disableSubscriptionOverrides = false
      defaultRequestPolicy         = { headerContentType = "text/plain; charset=UTF-8" }
    }
  })
}

resource "aws_sns_topic" "ordered" {
  name                        = "ordered.fifo"
  fifo_topic                  = true
  content_based_deduplication = true
  fifo_throughput_scope       = "MessageGroup"
}

resource "aws_sns_topic_policy" "orders" {
  arn = aws_sns_topic.orders.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "publish"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.role.arn }
      Action    = ["SNS:Publish", "SNS:GetTopicAttributes"]
      Resource  = aws_sns_topic.orders.arn
      Condition = { StringEquals = { "aws:PrincipalAccount" = data.aws_caller_identity.me.account_id } }
    }]
  })
}

resource "aws_sns_topic_data_protection_policy" "orders" {
  arn = aws_sns_topic.orders.arn
  policy = jsonencode({
    Description = "kept"
    Name        = "kept"
    Statement = [{
      DataDirection  = "Inbound"
      DataIdentifier = ["arn:aws:dataprotection::aws:data-identifier/EmailAddress"]
      Operation      = { Deny = {} }
      Principal      = ["*"]
      Sid            = "kept"
    }]
    Version = "2021-06-01"
  })
}

resource "aws_lambda_permission" "orders" {
  statement_id  = "orders"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.orders.arn
}

resource "aws_sns_topic_subscription" "function" {
  topic_arn           = aws_sns_topic.orders.arn
  protocol            = "lambda"
  endpoint            = aws_lambda_function.function.arn
  filter_policy_scope = "MessageBody"
  filter_policy       = jsonencode({ order = { total = [{ numeric = [">", 100] }] } })
}
