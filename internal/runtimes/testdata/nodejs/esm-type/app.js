export const handler = async () => import.meta.url.endsWith('/app.js');
