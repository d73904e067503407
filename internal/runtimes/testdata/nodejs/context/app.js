exports.handler = async (event, context) => {
  const remaining = context.getRemainingTimeInMillis();
  return { ...context, keys: Object.keys(context), remaining: remaining > 3500000 && remaining <= 3600000, trace: process.env._X_AMZN_TRACE_ID };
};
