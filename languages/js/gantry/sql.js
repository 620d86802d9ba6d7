// A database of the plugin's own, declared by `sql = [{ label = "main", migrations = "migrations/" }]`.
//
// Whole numbers beyond 2^53 lose digits, as numbers of JavaScript do; store such ids as text.

import client from "gantry:sql/client@0.1.0";
import { asked } from "./errors.js";

function toHost(value) {
  switch (typeof value) {
    case "undefined": return { tag: "null" };
    case "boolean": return { tag: "boolean", val: value };
    case "number": return Number.isSafeInteger(value) ? { tag: "integer", val: value } : { tag: "real", val: value };
    case "bigint": return { tag: "text", val: value.toString() };
    case "string": return { tag: "text", val: value };
  }
  if (value === null) return { tag: "null" };
  if (value instanceof Uint8Array) return { tag: "blob", val: value };
  if (value instanceof Date) return { tag: "text", val: value.toISOString() };
  return { tag: "text", val: JSON.stringify(value) };
}

const fromHost = ({ tag, val }) => (tag === "null" ? null : tag === "blob" ? Uint8Array.from(val) : val);

class Executor {
  #inner;

  constructor(inner) {
    this.#inner = inner;
  }

  /** The rows, as objects by the names of the columns. Parameters are `$1`, `$2`, … */
  query(sql, ...params) {
    const { columns, rows } = asked(() => this.#inner.query(sql, params.map(toHost)));
    return rows.map((row) => Object.fromEntries(row.map((value, at) => [columns[at], fromHost(value)])));
  }

  /** The first row, or undefined. */
  queryOne(sql, ...params) {
    return this.query(sql, ...params)[0];
  }

  /** Writes: `{ rowsAffected, lastInsertId }`. On a connection, in a transaction of its own. */
  execute(sql, ...params) {
    return asked(() => this.#inner.execute(sql, params.map(toHost)));
  }
}

class Connection extends Executor {
  #connection;

  constructor(label) {
    const connection = asked(() => client.Connection.open(label));
    super(connection);
    this.#connection = connection;
  }

  /** Runs the function in a transaction: commits when it returns, undoes everything when it throws. */
  transaction(work) {
    const transaction = asked(() => this.#connection.begin());
    let result;
    try {
      result = work(new Executor(transaction));
    } catch (error) {
      try {
        client.Transaction.rollback(transaction);
      } catch {
        // What was thrown says more than a rollback that failed, which the host does anyway.
      }
      throw error;
    }
    asked(() => client.Transaction.commit(transaction));
    return result;
  }
}

/** Opens a database by its label; `denied` if it is not declared or not granted. */
export const open = (label) => new Connection(label);
