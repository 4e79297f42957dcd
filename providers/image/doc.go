// Package image builds the images that a desired state names: from packages or a
// tar archive to a sealed root file system, with the kernel and the initramfs
// that belong to it.
//
// A build runs the programs of the image (maintainer scripts, mkinitramfs) as
// root of the building machine, in namespaces of their own but with no further
// fence: who may write the repository is trusted as far as that.
package image
