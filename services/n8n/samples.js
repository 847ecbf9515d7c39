// Imports the samples into n8n, each once: what a person has changed or deleted since stays as it is.
'use strict';

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

async function importOnce(client, kind, samples) {
	const { table, command } = KINDS[kind];
	const marked = await known(client, 'settings', 'key', samples.map((sample) => marker(sample.id)));
	const fresh = samples.filter((sample) => !marked.has(marker(sample.id)));
	const ids = fresh.map((sample) => sample.id);
	const there = await known(client, table, 'id', ids);
	const missing = fresh.filter((sample) => !there.has(sample.id));
	if (missing.length > 0) {
		const file = join(tmpdir(), `${kind}.json`);
		writeFileSync(file, JSON.stringify(missing), { mode: 0o600 });
		spawnSync('n8n', [...command, `--input=${file}`], { stdio: 'inherit' });
		// Its exit code says nothing about whether the import worked.
		if ((await known(client, table, 'id', ids)).size < ids.length) throw new Error(`not all ${kind} were imported`);
	}
	for (const id of ids) {
		await client.query('INSERT INTO settings (key, value, "loadOnStartup") VALUES ($1, $2, false)', [marker(id), 'true']);
	}
	console.log(`${kind}: ${missing.length} imported, ${samples.length - missing.length} left as they are`);
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
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
