// Package schema turns a folder of HCL into an immutable desired state, or into
// diagnostics that say where the mistake is, what is wrong, why, and how to mend it.
//
// It knows no server, reads no clock, no network and no environment: the same
// files and variables always give the same Desired, to the byte.
//
// Load goes through these steps, each in a file of that name:
//
//   - parse: files, through guard, become syntax; JSON becomes the native form;
//   - collect: blocks are held against the language (language.go), without values;
//   - module: the folders that module blocks name go through the same steps, once each;
//   - compile: names are bound to what they mean, and nodes where work multiplies
//     are wrapped for the meter;
//   - variable, then locals, for_each, and what modules are given and give, as they
//     are asked for (evaluate.go, modulevalue.go);
//   - decode: every instance of every block, one file per family of kinds;
//   - check: what only shows when resources are seen beside each other.
//
// Mistakes are collected over all steps, so that one run shows as many as it can.
package schema
