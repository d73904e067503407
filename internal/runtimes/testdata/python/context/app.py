def handler(event, context):
    c = context.client_context
    left = context.get_remaining_time_in_millis()
    context.log("from the context\n")
    print(context)
    return {
        "function_name": context.function_name,
        "function_version": context.function_version,
        "invoked_function_arn": context.invoked_function_arn,
        "memory_limit_in_mb": context.memory_limit_in_mb,
        "aws_request_id": context.aws_request_id,
        "log_group_name": context.log_group_name,
        "log_stream_name": context.log_stream_name,
        "tenant_id": context.tenant_id,
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "custom": c.custom,
        "env": c.env,
        "client": [c.client.installation_id, c.client.app_title, c.client.app_version_name,
                   c.client.app_version_code, c.client.app_package_name],
        "remaining": isinstance(left, int) and 3500000 < left <= 3600000,
    }
