def handler(event, context):
    return [context.client_context, context.tenant_id, context.identity.cognito_identity_id, repr(context.identity)]
