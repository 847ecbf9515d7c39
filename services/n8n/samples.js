// Imports the samples into n8n, each once: what a person has changed or deleted since stays as it is. A credential that nobody has
// changed gets the present secret when the platform's has been rotated.
'use strict';

const { createHash } = require('node:crypto');
const { spawnSync } = require('node:child_process');
const { existsSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const { Client } = createRequire('/usr/local/lib/node_modules/n8n/package.json')('pg');

const KINDS = {
	credentials: { table: 'credentials_entity', command: ['import:credentials'] },
	workflows: { table: 'workflow_entity', command: ['import:workflow', '--activeState=fromJson'] },
};

async function known(client, table, column, ids) {
	const { rows } = await client.query(`SELECT "${column}" AS id FROM "${table}" WHERE "${column}" = ANY($1)`, [ids]);
	return new Set(rows.map((row) => row.id));
}

const marker = (id) => `aikit.sample.${id}`;

const digest = (text) => createHash('sha256').update(text).digest('hex');
const digestOf = (value) => digest(JSON.stringify(value ?? null));

// Of what is there unmarked, because a run was killed before it got to that: perhaps of another secret than today's.
const UNKNOWN = 'unknown';

const file = join(tmpdir(), 'samples.json');

// Returns the digest of what a credential holds; undefined if it cannot be read, as with another key.
function held(id) {
	rmSync(file, { force: true });
	spawnSync('n8n', ['export:credentials', '--decrypted', `--id=${id}`, `--output=${file}`], { stdio: 'inherit' });
	return existsSync(file) ? digestOf(JSON.parse(readFileSync(file, 'utf8'))[0].data) : undefined;
}

function run(command, content) {
	writeFileSync(file, JSON.stringify(content), { mode: 0o600 });
	spawnSync('n8n', [...command, `--input=${file}`], { stdio: 'inherit' });
}

async function mark(client, id, value) {
	await client.query(
		'INSERT INTO settings (key, value, "loadOnStartup") VALUES ($1, $2, false) ON CONFLICT (key) DO UPDATE SET value = $2',
		[marker(id), JSON.stringify(value)],
	);
}

async function importOnce(client, kind, samples) {
	const { table, command } = KINDS[kind];
	const marked = await known(client, 'settings', 'key', samples.map((sample) => marker(sample.id)));
	const fresh = samples.filter((sample) => !marked.has(marker(sample.id)));
	const ids = fresh.map((sample) => sample.id);
	const there = await known(client, table, 'id', ids);
	const missing = fresh.filter((sample) => !there.has(sample.id));
	if (missing.length > 0) {
		run(command, missing);
		// Its exit code says nothing about whether the import worked.
		if ((await known(client, table, 'id', ids)).size < ids.length) throw new Error(`not all ${kind} were imported`);
	}
	for (const { id, data } of fresh) await mark(client, id, { sample: there.has(id) ? UNKNOWN : digestOf(data) });
	console.log(`${kind}: ${missing.length} imported, ${samples.length - missing.length} left as they are`);
}

// The mark keeps a digest of the sample that a credential was made of. A person has changed it if that is not what it holds now.
async function renewSecrets(client, samples) {
	for (const { id, type, data } of samples) {
		const { rows: marks } = await client.query('SELECT value FROM settings WHERE key = $1', [marker(id)]);
		const { rows: names } = await client.query('SELECT name FROM credentials_entity WHERE id = $1', [id]);
		const former = JSON.parse(marks[0].value).sample;
		const wanted = digestOf(data);
		if (names.length === 0 || former === wanted) continue;
		const [{ name }] = names;
		const present = held(id);
		if (present !== wanted) {
			if (former !== UNKNOWN && former !== present) continue;
			run(KINDS.credentials.command, [{ id, type, data, name }]);
			if (held(id) !== wanted) throw new Error(`the secret of "${name}" was not renewed`);
			console.log(`credentials: the secret of "${name}" was renewed`);
		}
		await mark(client, id, { sample: wanted });
	}
}

async function main() {
	const client = new Client({
		host: process.env.DB_POSTGRESDB_HOST,
		database: process.env.DB_POSTGRESDB_DATABASE,
		user: process.env.DB_POSTGRESDB_USER,
		password: readFileSync(process.env.DB_POSTGRESDB_PASSWORD_FILE, 'utf8'),
	});
	await client.connect();
	const samples = JSON.parse(readFileSync('/run/secrets/samples.json', 'utf8'));
	// Workflows name their credentials.
	for (const kind of ['credentials', 'workflows']) await importOnce(client, kind, samples[kind]);
	await renewSecrets(client, samples.credentials);
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
