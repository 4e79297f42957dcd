// Package bootloader is the provider of boot trees: for every machine that may
// ask, the files that take it from its firmware to a kernel with a root, compiled
// from bootloader and entry blocks and served over TFTP and HTTP.
//
// A boot tree is named by its content ("b/<id>/…") and its files refer to each
// other relatively, so two machines that boot the same share one, trees of several
// generations are served side by side, and only the DHCP answer tells which one a
// machine gets. A machine that another DHCP server sends here asks for an alias, and
// is led into the tree of the generation that its boot session is on.
package bootloader
