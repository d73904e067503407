resource "aws_iam_user" "user" {
  name                 = "conformance"
  path                 = "/people/"
  permissions_boundary = aws_iam_policy.boundary.arn
  force_destroy        = true
  tags                 = { kind = "user" }
}

resource "aws_iam_user_policy" "inline" {
  name = "inline"
  user = aws_iam_user.user.name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "lambda:InvokeFunction", Resource = "*" }]
  })
}

resource "aws_iam_user_policy_attachment" "managed" {
  user       = aws_iam_user.user.name
  policy_arn = "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess"
}

resource "aws_iam_access_key" "key" {
  user   = aws_iam_user.user.name
  status = "Active"
}

resource "aws_iam_group" "group" {
  name = "conformance"
  path = "/people/"
}

resource "aws_iam_group_policy" "inline" {
  name   = "inline"
  group  = aws_iam_group.group.name
  policy = aws_iam_user_policy.inline.policy
}

resource "aws_iam_group_policy_attachment" "own" {
  group      = aws_iam_group.group.name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_group_membership" "members" {
  name  = "members"
  group = aws_iam_group.group.name
  users = [aws_iam_user.user.name]
}

resource "aws_iam_group" "second" {
  name = "conformance-second"
}

resource "aws_iam_user_group_membership" "second" {
  user   = aws_iam_user.user.name
  groups = [aws_iam_group.second.name]
}

resource "aws_iam_policy_attachment" "everybody" {
  name       = "everybody"
  policy_arn = aws_iam_policy.everybody.arn
  users      = [aws_iam_user.user.name]
  groups     = [aws_iam_group.group.name]
  roles      = [aws_iam_role.role.name]
}

resource "aws_iam_policy" "everybody" {
  name   = "conformance-everybody"
  path   = "/people/"
  policy = aws_iam_user_policy.inline.policy
}

resource "aws_iam_instance_profile" "profile" {
  name = "conformance"
  role = aws_iam_role.role.name
  tags = { kind = "profile" }
}

resource "aws_iam_openid_connect_provider" "issuer" {
  url             = "https://issuer.example.com"
  client_id_list  = ["sts.amazonaws.com", "conformance"]
  thumbprint_list = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
  tags            = { kind = "provider" }
}

data "aws_iam_policy_document" "federated" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.issuer.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "issuer.example.com:aud"
      values   = ["conformance"]
    }
  }
}

resource "aws_iam_role" "federated" {
  name_prefix           = "conformance-"
  assume_role_policy    = data.aws_iam_policy_document.federated.json
  permissions_boundary  = "arn:aws:iam::aws:policy/PowerUserAccess"
  force_detach_policies = true
}

resource "aws_iam_service_linked_role" "linked" {
  aws_service_name = "autoscaling.amazonaws.com"
  custom_suffix    = "conformance"
  description      = "Scales"
}

data "aws_iam_policy" "managed" {
  arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"
}

data "aws_iam_principal_policy_simulation" "may" {
  policy_source_arn = aws_iam_user.user.arn
  action_names      = ["lambda:InvokeFunction"]
  depends_on        = [aws_iam_user_policy.inline]
}

output "may" {
  value = data.aws_iam_principal_policy_simulation.may.all_allowed
}
