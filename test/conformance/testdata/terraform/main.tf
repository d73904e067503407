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

variable "archive" {}

variable "greeting" {
  default = "hello"
}

variable "memory" {
  default = 128
}

data "aws_caller_identity" "me" {}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "role" {
  name                 = "conformance"
  path                 = "/service/"
  description          = "Runs the function"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = 7200
  permissions_boundary = aws_iam_policy.boundary.arn
  tags                 = { kind = "role" }
}

resource "aws_iam_policy" "boundary" {
  name = "conformance-boundary"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "*", Resource = "*" }]
  })
}

resource "aws_iam_policy" "read" {
  name        = "conformance-read"
  description = "Reads"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["s3:GetObject", "s3:List*"], Resource = "*", Sid = "m${var.memory}" }]
  })
}

resource "aws_iam_role_policy" "inline" {
  name = "inline"
  role = aws_iam_role.role.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = "arn:aws:sqs:*:${data.aws_caller_identity.me.account_id}:*" }]
  })
}

resource "aws_iam_role_policy_attachment" "own" {
  role       = aws_iam_role.role.name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_role_policy_attachment" "managed" {
  role       = aws_iam_role.role.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_cloudwatch_log_group" "log" {
  name              = "/aws/lambda/conformance"
  retention_in_days = 7
  tags              = { kind = "log" }
}

resource "aws_lambda_layer_version" "layer" {
  layer_name               = "conformance"
  description              = "Beneath"
  filename                 = var.archive
  source_code_hash         = filebase64sha256(var.archive)
  compatible_runtimes      = ["python3.11"]
  compatible_architectures = ["x86_64"]
  license_info             = "MIT"
}

resource "aws_lambda_layer_version_permission" "all" {
  layer_name     = aws_lambda_layer_version.layer.layer_name
  version_number = aws_lambda_layer_version.layer.version
  statement_id   = "all"
  action         = "lambda:GetLayerVersion"
  principal      = "*"
}

resource "aws_lambda_code_signing_config" "signing" {
  description = "Warns"
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:us-east-1:${data.aws_caller_identity.me.account_id}:/signing-profiles/p/0123456789"]
  }
  policies {
    untrusted_artifact_on_deployment = "Warn"
  }
}

resource "aws_lambda_runtime_management_config" "runtime" {
  function_name     = aws_lambda_function.function.function_name
  update_runtime_on = "FunctionUpdate"
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "What runs"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}

resource "aws_lambda_provisioned_concurrency_config" "live" {
  function_name                     = aws_lambda_alias.live.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = var.memory / 128
}

resource "aws_lambda_function" "function" {
  function_name    = "conformance"
  description      = "Greets"
  role             = aws_iam_role.role.arn
  runtime          = "python3.11"
  handler          = "app.handler"
  filename         = var.archive
  source_code_hash = filebase64sha256(var.archive)
  memory_size      = var.memory
  timeout          = 10
  publish          = true
  layers           = [aws_lambda_layer_version.layer.arn]

  reserved_concurrent_executions = 3

  code_signing_config_arn = aws_lambda_code_signing_config.signing.arn

  environment {
    variables = { GREETING = var.greeting }
  }
  ephemeral_storage {
    size = 1024
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "WARN"
    log_group             = aws_cloudwatch_log_group.log.name
  }
  tags       = { kind = "function" }
  depends_on = [aws_iam_role_policy_attachment.managed]
}

data "aws_lambda_invocation" "greet" {
  function_name = aws_lambda_function.function.function_name
  input         = jsonencode({ name = "Terraform" })
}

output "greeting" {
  value = jsondecode(data.aws_lambda_invocation.greet.result)
}

output "function_arn" {
  value = aws_lambda_function.function.arn
}
