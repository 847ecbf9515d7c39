// Imports the samples into n8n, each once: what a person has changed or deleted since stays as it is. A credential that nobody has
// changed gets the present secret when the platform's has been rotated.
'use strict';

const { createHash } = require('node:crypto');
const { spawnSync } = require('node:child_process');
const { readFileSync, writeFileSync } = require('node:fs');
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

function run(command, content) {
	const file = join(tmpdir(), 'samples.json');
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
	// What was there unmarked is of a run that was killed, and perhaps not of today.
	for (const { id, data } of fresh) await mark(client, id, { sample: there.has(id) ? '' : digestOf(data), stored: null });
	console.log(`${kind}: ${missing.length} imported, ${samples.length - missing.length} left as they are`);
}

// What n8n stores is encrypted, so whether a person has changed a credential shows in its text alone: the mark keeps a digest of that,
// and one of the sample that it was made of. The first is missing until the import has ended, so that a killed run is repeated.
async function renewSecrets(client, samples) {
	for (const { id, type, data } of samples) {
		const stored = async () => (await client.query('SELECT name, data FROM credentials_entity WHERE id = $1', [id])).rows[0];
		const { rows } = await client.query('SELECT value FROM settings WHERE key = $1', [marker(id)]);
		const known = JSON.parse(rows[0].value);
		const sample = digestOf(data);
		const present = await stored();
		if (!present || (known.stored !== null && (known.sample === sample || known.stored !== digest(present.data)))) continue;
		if (known.sample !== sample) {
			await mark(client, id, { ...known, stored: null });
			run(KINDS.credentials.command, [{ id, type, data, name: present.name }]);
			if ((await stored()).data === present.data) throw new Error(`the secret of "${present.name}" was not renewed`);
			console.log(`credentials: the secret of "${present.name}" was renewed`);
		}
		await mark(client, id, { sample, stored: digest((await stored()).data) });
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
	const samples = JSON.parse(readFileSync('/etc/aikit/samples.json', 'utf8'));
	// Workflows name their credentials.
	for (const kind of ['credentials', 'workflows']) await importOnce(client, kind, samples[kind]);
	await renewSecrets(client, samples.credentials);
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
