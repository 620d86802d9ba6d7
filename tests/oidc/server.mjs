// An OpenID provider for tests. The program is `oidc-provider`; this says who its clients and people are, plays the part
// of Facebook's profiles, and lets a test make it slow, talkative or a liar.
//
// node server.mjs TOOLS PORT: TOOLS is the folder that `npm ci` has filled.
//
// Whoever logs in as `NAME:EMAIL:yes` is the subject of that text, with this address, verified or (`no`) not.

import { createHmac, createPrivateKey, generateKeyPairSync, sign, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const [tools, port] = process.argv.slice(2);
const { Provider } = await import(`${tools}/node_modules/oidc-provider/lib/index.js`);

const issuer = `http://127.0.0.1:${port}`;
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const keys = [{ ...key.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }];

// What a liar can make of an ID token. The first lies about nothing: whoever refuses it refuses everything.
const lies = {
  nothing: ({ claims }) => ({ claims }),
  nonce: ({ claims }) => ({ claims: { ...claims, nonce: 'of-somebody-else' } }),
  'no-nonce': ({ claims: { nonce, ...claims } }) => ({ claims }),
  audience: ({ claims }) => ({ claims: { ...claims, aud: 'another-client' } }),
  audiences: ({ claims }) => ({ claims: { ...claims, aud: [claims.aud, 'another-client'] } }),
  party: ({ claims }) => ({ claims: { ...claims, azp: 'another-client' } }),
  issuer: ({ claims }) => ({ claims: { ...claims, iss: 'https://another.example' } }),
  expired: ({ claims }) => ({ claims: { ...claims, exp: claims.iat - 120 } }),
  future: ({ claims }) => ({ claims: { ...claims, iat: claims.iat + 7200, exp: claims.iat + 9000 } }),
  none: ({ claims }) => ({ claims, alg: 'none' }),
  secret: ({ claims }) => ({ claims, alg: 'HS256' }),
  key: ({ claims }) => ({ claims, key: stranger }),
  hash: ({ claims }) => ({ claims: { ...claims, at_hash: 'AAAAAAAAAAAAAAAAAAAAAA' } }),
};

const client = (id, more) => ({
  client_id: id,
  client_secret: `the-secret-of-${id}`,
  redirect_uris: [`https://shop.example/api/auth/oauth/${id}/callback`],
  ...more,
});

const provider = new Provider(issuer, {
  clients: [
    client('shop'),
    client('club'),
    client('post', { token_endpoint_auth_method: 'client_secret_post' }),
    client('open', { token_endpoint_auth_method: 'none', client_secret: undefined }),
    client('facebook', { token_endpoint_auth_method: 'client_secret_post' }),
    ...Object.keys(lies).map((lie) => client(`lie-${lie}`)),
  ],
  jwks: { keys },
  cookies: { keys: ['only-for-tests'] },
  pkce: { required: () => true },
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => {
      const [, email, verified] = id.split(':');
      return { sub: id, email, email_verified: verified === 'yes' };
    },
  }),
});

const base64 = (text) => Buffer.from(text).toString('base64url');
const signed = ({ claims, alg = 'RS256', key: by = key }, kid, secret) => {
  const text = `${base64(JSON.stringify({ alg, typ: 'JWT', kid }))}.${base64(JSON.stringify(claims))}`;
  const signature = {
    RS256: () => sign('sha256', Buffer.from(text), createPrivateKey(by.export({ type: 'pkcs8', format: 'pem' }))),
    HS256: () => createHmac('sha256', secret).update(text).digest(),
    none: () => '',
  }[alg]();
  return `${text}.${base64(signature)}`;
};

provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route !== 'token' || !ctx.body?.id_token) return;
  const { clientId, clientSecret } = ctx.oidc.client;
  const lie = lies[clientId.replace(/^lie-/, '')];
  if (!clientId.startsWith('lie-')) return;
  const [head, body] = ctx.body.id_token.split('.', 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  const [, email, verified] = body.sub.split(':');
  const claims = { ...body, email, email_verified: verified === 'yes' };
  ctx.body.id_token = signed(lie({ claims }), head.kid, clientSecret);
});

// `GET /graph/me` as Facebook answers it: only to who shows with `appsecret_proof` to be the app.
async function graph(request, response) {
  const bearer = request.headers.authorization?.replace(/^Bearer /, '');
  const token = bearer && await provider.AccessToken.find(bearer);
  const proof = new URL(request.url, issuer).searchParams.get('appsecret_proof') ?? '';
  const right = createHmac('sha256', 'the-secret-of-facebook').update(bearer ?? '').digest('hex');
  const is_right = proof.length === right.length && timingSafeEqual(Buffer.from(proof), Buffer.from(right));
  response.setHeader('content-type', 'application/json');
  if (!token || !is_right) {
    response.statusCode = 400;
    return response.end(JSON.stringify({ error: { message: 'Invalid OAuth access token.', type: 'OAuthException', code: 190 } }));
  }
  const [, email] = token.accountId.split(':');
  return response.end(JSON.stringify({ id: base64(token.accountId), name: 'Somebody', email }));
}

const mood = { slow_ms: 0, huge: false };
const answer = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === '/mood') {
    mood.slow_ms = Number(url.searchParams.get('slow_ms') ?? 0);
    mood.huge = url.searchParams.has('huge');
    return response.end();
  }
  // People's own pages are as always: it is what the host asks for that is slow or huge.
  const is_asked_by_host = ['/.well-known/openid-configuration', '/jwks', '/token', '/me', '/graph/me'].includes(url.pathname);
  if (is_asked_by_host && mood.slow_ms) await new Promise((resolve) => setTimeout(resolve, mood.slow_ms));
  if (is_asked_by_host && mood.huge) {
    response.setHeader('content-type', 'application/json');
    return response.end(JSON.stringify({ issuer, padding: 'x'.repeat(4 << 20) }));
  }
  return url.pathname === '/graph/me' ? graph(request, response) : answer(request, response);
}).listen(Number(port), '127.0.0.1', () => console.log('listening'));
