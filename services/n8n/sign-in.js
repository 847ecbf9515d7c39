// Signs people in at n8n as who the sign-in proxy says they are: the community edition has no single sign-on.
//
// The proxy says so in headers, which count only with the key that it shares with this file. Each request is answered as that person:
// a session of n8n's own begins nowhere, so it can neither outlive the one at the proxy nor be another person's.
'use strict';

const { timingSafeEqual } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');

const COOKIE = 'n8n-auth';
const LEAVING = 'aikit-leaving';
const PROVIDER = 'oidc';
const MEMBER = { slug: 'global:member' };
const OWNER = 'global:owner';
const SIGN_OUT = '/oauth2/logout';

const key = readFileSync('/run/secrets/sign-in-key');

const own = createRequire(require.main.filename);
const { Container } = own('@n8n/di');
const { AuthService } = own('../dist/auth/auth.service.js');

function said(request, header) {
	const value = request.headers[`x-signed-in-${header}`];
	return value ? Buffer.from(value, 'base64url').toString('utf8') : '';
}

function trusted(request) {
	const given = Buffer.from(request.headers['x-signed-in-key'] ?? '');
	return given.length === key.length && timingSafeEqual(given, key);
}

class Accounts {
	constructor(users) {
		this.users = users;
		this.identities = users.manager.getRepository('AuthIdentity');
		// A page's first requests come at once; only one of them may make the account.
		this.pending = new Map();
	}

	find(person) {
		if (!this.pending.has(person.subject)) {
			const found = this.current(person).finally(() => this.pending.delete(person.subject));
			this.pending.set(person.subject, found);
		}
		return this.pending.get(person.subject);
	}

	async current({ subject, ...profile }) {
		const identity = await this.identities.findOne({
			where: { providerId: subject, providerType: PROVIDER },
			relations: { user: { role: true } },
		});
		const user = identity ? identity.user : await this.link(subject, profile);
		const changed = Object.keys(profile).some((name) => (user[name] ?? '') !== profile[name]);
		// The owner's profile is what the deployment says.
		if (changed && user.role.slug !== OWNER) {
			await this.users.update(user.id, profile);
			Object.assign(user, profile);
		}
		return user;
	}

	// The account with a person's e-mail address becomes theirs, if it is nobody's yet; otherwise they get a new one.
	async link(subject, profile) {
		const known = await this.users.findOne({
			where: { email: profile.email },
			relations: { role: true, authIdentities: true },
		});
		if (known?.authIdentities.some((identity) => identity.providerType === PROVIDER)) {
			throw new Error(`the account of ${profile.email} belongs to another person`);
		}
		const user = known ?? (await this.users.createUserWithProject({ ...profile, role: MEMBER })).user;
		await this.identities.insert({ userId: user.id, providerId: subject, providerType: PROVIDER });
		return user;
	}
}

function middleware(accounts, auth) {
	return async function signIn(request, response, next) {
		delete request.cookies[COOKIE];
		if (!trusted(request)) return next();
		const { path, method } = request;
		if (method === 'POST' && path === '/rest/logout') {
			response.cookie(LEAVING, '1', { path: '/signin', maxAge: 60_000, httpOnly: true, secure: true, sameSite: 'strict' });
			return response.json({ data: { loggedOut: true } });
		}
		if (method === 'GET' && path === '/signin') {
			// The editor goes there after signing out, and also when it was refused; who comes back from Keycloak is signed in.
			const leaving = request.cookies[LEAVING] !== undefined;
			response.clearCookie(LEAVING, { path: '/signin' });
			return response.redirect(leaving ? SIGN_OUT : '/');
		}
		try {
			const user = await accounts.find({
				subject: said(request, 'subject'),
				email: said(request, 'email').toLowerCase(),
				firstName: said(request, 'first-name'),
				lastName: said(request, 'last-name'),
			});
			// Second factors are Keycloak's.
			request.cookies[COOKIE] = auth.issueJWT(user, true);
		} catch (error) {
			console.error(`sign-in failed: ${error.message}`);
			return response.status(403).type('text/plain').send('n8n has no account for you; please ask an administrator.');
		}
		return next();
	};
}

module.exports = {
	n8n: {
		ready: [
			async function ready(server) {
				const { stack } = server.app.router;
				const after = stack.findIndex((layer) => layer.name === 'cookieParser');
				if (after < 0) throw new Error('sign-in.js does not fit this version of n8n: nothing parses cookies');
				server.app.use(middleware(new Accounts(this.dbCollections.User), Container.get(AuthService)));
				// Before everything that asks who is signed in; webhooks are answered earlier.
				stack.splice(after + 1, 0, stack.pop());
			},
		],
	},
};
