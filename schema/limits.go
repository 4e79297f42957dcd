package schema

// What a tree may cost. The files come from a repo that anybody with push access
// writes, and the daemon loads them unattended: whatever is in there, Load ends
// quickly and with a diagnostic.
const (
	maxConfigBytes = 1 << 20    // one *.hcl or *.hcl.json file
	maxDataBytes   = 4 << 20    // one file read by file(), templatefile()
	maxTotalBytes  = 64 << 20   // everything whose content is read
	maxHashBytes   = 16 << 30   // everything of which only the digest is taken
	maxFiles       = 10_000     // distinct files
	maxFolderFiles = 100_000    // files and folders in all folders that images are made of
	maxFolderDepth = 64         // folders in each other there
	maxDepth       = 100        // nested brackets, blocks, interpolations; nested values
	maxOperators   = 10_000     // operators, dots and interpolations in one expression
	maxNumber      = 64         // characters of a number literal
	maxExponent    = 4096       // binary exponent of a number, either sign
	maxSteps       = 10_000_000 // units of work; see cost.go
	maxWords       = 1_750_000  // words and signs of all configuration; see countTokens
	maxText        = 256 << 20  // bytes of text made by all evaluation
	maxValueNodes  = 1_000_000  // elements of one value, at all levels
	maxValueText   = 16 << 20   // bytes of all strings of one value
	maxElements    = 100_000    // what range() and setproduct() may make
	maxSet         = 20_000     // elements that are made a set
	maxCells       = 1_000_000  // what split() and csvdecode() may make
	maxYAML        = 300_000    // values that yamldecode() may make
	maxModules     = 1000       // module blocks, after for_each
	maxModuleDepth = 8          // modules that include modules …
	maxInstances   = 100_000    // blocks, after for_each
	maxChain       = 200        // locals that need locals that need locals …
	maxTemplates   = 16         // templates that render templates …
	maxFailures    = 100        // errors of one expression before it is given up
	maxDiagnostics = 100        // errors shown
	maxPerBlock    = 5          // instances of one for_each that may fail before the rest is skipped
)

// RecipeVersion is part of every recipe. It goes up when the same specification
// must be built anew because building means something else.
const RecipeVersion = 1

// BuildVersion is part of the recipe of every image, and not of its base's: the
// packages are fetched as before. It goes up when the program that builds puts
// something else into an image beside what the image says (its hook of the initramfs,
// nbdroot, a unit), or has more to tell of it, so that the plan shows the build that
// makes the difference, and nothing is served as what it is not.
const BuildVersion = 2

// Limits of what is served, from the formats on the wire.
const (
	maxKernelArgs       = 1500 // bytes; GRUB and iPXE cut the kernel line near 2 KiB, and the boot words need the rest
	maxReplacements     = 100  // texts that a copy of a file has in place of others
	maxReplacementBytes = 64 << 10
	maxBootFileName     = 127 // bytes; the BOOTP file field has 128 with its NUL, RFC 951
	maxWire             = 128 // bytes of a wire name; that of an export has a digest and a machine behind it, and room for 255
	maxFileContent      = 4 << 20
	maxHostFile         = 256 << 10 // bytes of a file that machines get in an initrd of their own
	maxHostFiles        = 1 << 20   // and of all such files of one block
	minLease            = 60        // seconds
	maxExportPath       = 127       // bytes of an NFS path: it is in a word of the kernel line
	maxPartition        = 128       // entries of a GPT as everybody writes it
	maxLease            = 0xffffffff - 1
	minFilesystem       = 16 << 20
	minBtrfs            = 109 << 20 // what mkfs.btrfs asks for
	maxFilesystem       = 16 << 40
)
