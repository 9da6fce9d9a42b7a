//! The reasons of conditions, Events, plan results and errors.

use super::words::words;

words! {
    /// Why something is as it is, in one word for programs. Stored as text, so that a status of another version of the operator can be read.
    pub enum Reason {
        // Environments.

        /// The Environment can be used
        Validated => "",
        /// The namespace is this host, or another one that gave itself to it
        HostIsEnvironment => "Choose another namespace",
        /// Another Environment has the namespace. Of those that the namespace opted in to, the oldest keeps it
        NamespaceTaken => "Delete this Environment, or the other one",
        /// The namespace has not opted in to this host in this role, or doesn't exist
        NotManaged => "Apply the Role and RoleBinding in the message, or have the namespace labelled",
        /// The namespace doesn't exist any more
        NamespaceNotFound => "Create it, or delete the Environment",
        /// The namespace is being deleted
        NamespaceTerminating => "Create it again when it is gone, and accept the new one in its Environment; or delete the Environment",
        /// A `Development` environment names another cluster. The schema refuses that, so it was stored before
        RemoteDevelopmentUnsupported => "Delete it",
        /// The namespace's uid is not `spec.environmentId`
        IdentityMismatch => "If this namespace is meant, set `spec.environmentId` to its uid",
        /// The namespace was deleted and created again under the same name, or the kubeconfig leads to another one
        IdentityChanged => "If the new one is meant, set `spec.environmentId` to its uid",
        /// The namespace and the host are in different regions, or only one of the two says in which it is
        RegionMismatch => "Label both alike, use a host of that region, or label the host `pilotage.dev/cross-region: allowed`",
        /// An object of this kind can't be a prerequisite
        PrerequisiteNotAllowed => "Take it out of `spec.prerequisites`",
        /// The prerequisite doesn't exist, or the cluster has no such kind
        PrerequisiteNotFound => "Create it, install what serves it, or correct the entry",
        /// The operator may not read the prerequisite
        PrerequisiteNotReadable => "Apply the Role and RoleBinding in the message",
        /// The prerequisite exists and is not ready
        PrerequisiteNotReady => "Look at that object",
        /// `Development` only: the operator may not read the namespace
        SourceNotReadable => "Apply the RoleBinding of `view` in the message",

        // Pipelines.

        /// The object can be used
        Ready => "",
        /// The pipeline can be used; the stages in the message can't be deployed to yet
        SomeStagesNotReady => "See `Ready` of those stages",
        /// The pipeline can be used; the development environments in the message can't be exported from yet
        SomeEnvironmentsNotValidated => "See `Validated` of those environments",
        /// The schedule or the time zone of `retention` can't be read, or never comes
        RetentionInvalid => "Correct `spec.retention`",
        /// A run of retention has ended; what it removed is in `status.retention` of the Pipeline
        RetentionRan => "",
        /// A run of retention is under way
        RetentionRunning => "",
        /// A run of retention could not remove everything; why is in `status.retention` of the Pipeline
        RetentionIncomplete => "See the operator's log, which names the objects",
        /// A version that retention archives before it goes can't be read whole any more, so it stays
        NotArchived => "See the operator's log, which names it; put its bytes back, or purge it",
        /// `developmentEnvironments` is empty
        NoDevelopmentEnvironment => "Name at least one",
        /// An Environment that the pipeline or the stage names doesn't exist in this namespace
        UnknownEnvironment => "Create it, or correct `developmentEnvironments` or `targetEnvironment`",
        /// A pipeline links an Environment of type `Target`, or a stage deploys to one of type `Development`
        WrongEnvironmentType => "Name an Environment of the other type",
        /// No Stage names this pipeline
        NoStages => "Create one",
        /// More than 7 Stages name the pipeline
        TooManyStages => "Delete some, or move them to another pipeline",
        /// A stage's `previousStage` doesn't exist
        UnknownPreviousStage => "Create it, or correct it",
        /// A stage's `previousStage` is part of another pipeline
        ForeignPreviousStage => "Correct `previousStage`, or the other stage's `pipeline`",
        /// More than one stage has no `previousStage`
        MultipleFirstStages => "Set it on all but one",
        /// Stages follow each other in a circle
        StageCycle => "Take `previousStage` from the one that is to be first",
        /// The Environment, or every development environment of the pipeline, is not validated
        EnvironmentNotValidated => "See its condition `Validated`",
        /// Of a pipeline: those in `sharedWith` may ask. Of a request: all is shared that it asked for
        Shared => "",
        /// `sharedWith` is empty
        NotShared => "Add somebody",
        /// A Role or `RoleBinding` of the name that sharing needs was made by somebody else
        NameTaken => "Delete or rename it",
        /// The operator may not share pipelines, or read `ServiceAccounts`, in this host
        OperatorLacksHostRole => "Bind `pilotage-host` to it: the message has the RoleBinding",
        /// The API server refused to share, or could not be asked in time. Why is in the message
        SharingRefused => "Correct what it names",
        /// What happens is sent to all sinks
        Delivering => "",
        /// A sink doesn't take what is sent; it is sent again
        SinkFailing => "See to the receiver, or remove the sink",
        /// The Secret with the key that signs what is sent can't be read, or can't be used. Nothing is sent unsigned
        SigningKeyNotUsable => "Apply the grant, or correct the Secret, as the message says",

        // Solutions.

        /// No pipeline that is shared with somebody takes solutions from this namespace, or none whose development Environment is validated
        NoPipeline => "Have an administrator link an Environment of this namespace to a pipeline, and share that",
        /// A request that has not ended asks for this version already
        RequestedAlready => "Follow that one, or withdraw it",

        // Stages.

        /// An admission policy or its binding is missing, or is not as it was installed. Nothing deploys without them
        PoliciesMissing => "`kubectl apply --server-side --force-conflicts -f deploy/admission/`, then `kubectl replace -f deploy/admission/`",
        /// A window can't be kept: its schedule or time zone can't be read, it never comes, or it lasts no time
        WindowInvalid => "The stage's owner corrects `spec.windows`",
        /// The pipeline doesn't exist in this namespace
        UnknownPipeline => "Create it, or correct `spec.pipeline`",
        /// The Environment leads to another namespace (by uid) or cluster than when the owner wrote the stage
        TargetChanged => "If it is still meant, the owner changes the stage's spec, for example its description",
        /// The stage deploys as its owner and has none
        OwnerMissing => "Write it again with the policies in force; they fill in the owner",
        /// The `ServiceAccount` doesn't exist in this namespace
        ServicePrincipalNotFound => "Create it, or correct `serviceAccountName`",
        /// The stage's owner may not act as the `ServiceAccount` (any more)
        NotOwnerOfServicePrincipal => "Let somebody own the stage who may, or apply the grant in the message",
        /// A rule by which the operator acts as the delegate is missing, in the host or in the target
        OperatorMayNotActAsDelegate => "Apply the Roles in the message",
        /// The delegate may not decide requests
        DelegateLacksHostRole => "Bind `pilotage-delegate` to it: the message has the RoleBinding",
        /// The delegate lacks rights in the target, or in its whole cluster
        DelegateLacksTargetAccess => "Apply what the message prints",
        /// The target is in another cluster, and the stage has no service principal
        RemoteNeedsServicePrincipal => "Give it one",
        /// The cluster has no constrained impersonation, so that the operator acts as service principals alone, and the stage has none
        NeedsServicePrincipal => "Give it a service principal",
        /// The API server gives the operator no token of the delegate, by which it acts in clusters without constrained impersonation
        TokenNotLent => "See the message",

        // Other clusters.

        /// The operator may not read the kubeconfig's Secret, or could not
        KubeconfigNotReadable => "Apply the Role and RoleBinding in the message, in the host",
        /// There is no such Secret, or no such key in it
        KubeconfigNotFound => "Create it",
        /// The kubeconfig says something that is refused, or is none
        KubeconfigRefused => "Do what the message says about the field",
        /// The cluster rejects the kubeconfig's credential
        KubeconfigRejected => "Put a new one into the Secret",
        /// The cluster doesn't answer
        ClusterUnreachable => "See that it runs and can be reached",
        /// The cluster's API server answers with an error
        ClusterRefuses => "See the message",
        /// The kubeconfig's user may not see the namespace
        NamespaceNotReadable => "Apply the ClusterRole in the message, over there",
        /// There is no `ServiceAccount` of that name in `delegateNamespace`
        DelegateMissingInCluster => "Create it, and grant it what it deploys",
        /// The kubeconfig's user may not ask for the delegate's tokens
        TokenNotGranted => "Apply the Role in the message, over there",
        /// The cluster rejected the delegate's token
        TokenRejected => "Nothing: another one is asked for",

        // Every kind.

        /// No operator has looked at the object yet; it looks into hosts alone. In a plan: bindings of the target could not be listed,
        /// so that a `ServiceAccount` may get rights by one that is there already
        NotLookedAt => "Label the namespace `pilotage.dev/host=true`, and see that the operator runs. In a plan: ask the target's owner",
        /// Another object that this one needs has no condition yet
        NotLookedAtYet => "Wait; see that object",
        /// Ten tries in a row ended with an error that doesn't pass by itself
        InternalError => "See the message, and the operator's log",

        // Requests: conditions on the way.

        /// The request may be carried out
        Accepted => "",
        /// The step of the gate was completed
        Completed => "",
        /// The artifact is stored
        Stored => "",
        /// The dry run as the delegate succeeded
        DryRunSucceeded => "",
        /// It was approved; by whom is in the message
        Approved => "",
        /// The stage approves by itself, and its owner answers for it
        ApprovedByStage => "",
        /// The request has ended
        Ended => "",
        /// The operator was interrupted after it had shared, before it wrote down what
        NotKnown => "Look at the RoleBindings of the target",

        // Requests: what they wait for.

        /// A gate was just opened
        GateOpened => "Nothing: the next moment tells who decides",
        /// A decision at gate 1
        AwaitingPreExportStep => "Decide",
        /// A decision at gate 2
        AwaitingApproval => "Decide",
        /// A decision at gate 3
        AwaitingPreDeploymentStep => "Decide",
        /// Its `scheduledTime`
        Scheduled => "",
        /// The stage's `soak` time
        Soaking => "",
        /// A time that the stage's `windows` allow
        OutsideWindow => "",
        /// Another request for the same solution in the same environment; it is named
        Queued => "",
        /// It has claimed its target and begins to write
        Deploying => "",
        /// Objects that are applied and not healthy yet
        WaitingForHealth => "Look at them in the target",
        /// The target's API server, or a webhook that it asks before it writes, can't be reached. A request that deploys fails by it at
        /// `deployment.timeout`
        TargetUnavailable => "Have whoever runs the target, or the webhook, bring it back; after a failure ask again",
        /// The version before is put back
        RollingBack => "",
        /// The way back was begun
        RollbackStarted => "",
        /// The pipeline doesn't exist (yet)
        PipelineNotFound => "Create it",
        /// The stage doesn't exist (yet)
        StageNotFound => "Create it",
        /// The Environment doesn't exist (yet)
        EnvironmentNotFound => "Create it",
        /// The Solution doesn't exist in development (yet)
        SolutionNotFound => "Create it",
        /// The previous stage, or its Environment, doesn't exist (yet)
        PreviousStageNotFound => "Create it",
        /// The pipeline is not ready; its own reason is in the message
        PipelineNotReady => "See that object",
        /// The stage is not ready; its own reason is in the message
        StageNotReady => "See that object",
        /// The Environment is not ready; its own reason is in the message
        EnvironmentNotReady => "See that object",
        /// `spec.suspend` is set on the pipeline
        PipelineSuspended => "An administrator takes it away",
        /// A request for this artifact in the previous stage; it is named, and waited for as long as it takes
        PreviousStageInProgress => "",
        /// A solution that this one depends on doesn't run in the target; a request that brings it there is named
        DependencyMissing => "Deploy that one first",
        /// The operator lacks a right in development
        OperatorMayNotRead => "Apply the rule in the message",
        /// The requester lacks a right in development: nobody ships what they can't see
        RequesterMayNotRead => "Apply what the message prints",
        /// The request names no source, and what is stored is from a registry: two seconds for a Solution to come along
        SourceNotNamed => "",
        /// Somebody else develops a Solution of that name, and the requester, who wants a version of it from a registry, may not update it
        SolutionIsDevelopedElsewhere => "Ask under the name of a solution of one's own, or apply what the message prints",
        /// A Secret or `ServiceAccount` of the target isn't offered, or doesn't exist: which of the two is not told
        NotOffered => "Its owner creates it where need be, and labels it `pilotage.dev/connection=true`",
        /// A `ConfigMap`, a volume claim or a class doesn't come with the solution, and the target doesn't have it
        MissingInTarget => "Create it in the target; or ship it, or name another by a setting, in a new request",
        /// A Role or binding in the solution would grant what the delegate doesn't hold
        GrantsMoreThanDelegateHolds => "Let the delegate hold it, or give it `bind` or `escalate`",
        /// Workloads run as accounts that have rights in development, and the operator may not list the Roles and `RoleBindings` there
        RolesNotLookedFor => "Apply the rule in the message, or name the solution's kinds in its `components`",
        /// A quota of the target is used up, or all that the plan creates doesn't fit into it together
        QuotaExceeded => "Raise the quota or free some of it, or ship less",
        /// The host, or the development environment in it, keeps as many bytes of artifacts as it may
        StorageFull => "Delete artifacts that were never deployed, by the command in the message, or raise the operator's quota",
        /// The requester's right to deploy through the pipeline was taken away since they asked
        RequesterMayNotDeploy => "Share the pipeline with them again, or apply the Role in the message",
        /// It is deployed, and waits for the target's API server to share it; given up at `deployment.timeout`
        Sharing => "",
        /// Something was not looked up yet
        Unknown => "Nothing: it is looked up next",

        // Requests: how they end.

        /// The version runs in the stage
        Succeeded => "",
        /// A request of this name succeeded here before, as the Artifact's record shows. Nothing was written
        AlreadyDeployed => "Nothing: Git may keep requests for ever",
        /// It was withdrawn before anything was written
        Canceled => "",
        /// It was rejected at a gate; by whom and with which comment is in the message
        Rejected => "",
        /// The request was deleted before it could be told how it ended
        Deleted => "See the Artifact's record",
        /// A gate was not decided in time
        GateTimedOut => "Make a new request",
        /// The requester may act as the delegate or as another approver, and so could approve
        RequesterCouldApprove => "Take that right away, or set `gates.allowSelfApproval`",
        /// The stage approves by itself, for which its owner answers, and the owner asks
        RequesterIsApprover => "Let somebody else ask, or set `gates.allowSelfApproval`",
        /// The approval names no plan: the admission policies were not in force
        ApprovalNotBound => "Put the policies back, make a new request",
        /// The request doesn't say who asks: the admission policies were not in force
        RequesterUnknown => "Put the policies back, make a new request",
        /// What would be deployed is no longer what was planned; the message says what differs
        PlanChanged => "Make a new request: the stored artifact is used",
        /// A higher version got there first. Nothing was written
        Superseded => "Nothing, or ask for a higher version",
        /// The target runs this version or a higher one
        VersionNotHigher => "Raise the version, or set `allowRedeployments` on the pipeline",
        /// The Solution is at another version, and the one asked for was never stored
        VersionDiffers => "Set the Solution's `version`, or ask for the one it has",
        /// This artifact has not succeeded in the previous stage, or only when that stage led to another target
        PreviousStageNotSucceeded => "Deploy it there first",
        /// The stage is part of another pipeline
        StageOfOtherPipeline => "Name the right one in a new request",
        /// `sourceEnvironment` isn't linked to the pipeline
        SourceNotLinked => "Correct it in a new request",
        /// Several development environments are linked, and the request names none
        SourceAmbiguous => "Set `sourceEnvironment` in a new request",
        /// The source is set on a request for a later stage
        SourceNotAllowed => "Leave it out in a new request",
        /// The stage doesn't let requesters share that, nor bindings that come with the solution
        SharingNotAllowed => "Make a new request with what it allows; leave people and others out of the solution's bindings",
        /// The request only plans, and the deployment could be carried out. Nothing was written, and nothing stored
        Planned => "Ask again without `planOnly`",
        /// `scheduledTime` can't be read
        ScheduledTimeInvalid => "Correct it in a new request",
        /// The name of who would deploy, or of a group of theirs, can't be sent as it is
        DelegateNameUnusable => "Use a stage with a ServiceAccount as delegate, or another identity",
        /// The Environment's record has no room for another solution. Nothing was written
        EnvironmentFull => "Deploy to a namespace with an Environment of its own",
        /// The API server doesn't take what is to be written of the request: it is too large, or invalid
        StatusRefused => "See the message",
        /// The API server doesn't take the record of the deployment. The claim is released
        RecordRefused => "See the message",
        /// Stage, target or artifact went while the plan was made
        NothingToPlan => "Make a new request when they are there again",
        /// A setting is missing, has the wrong type, or leads to no field; each is in the plan's results
        SettingsRefused => "Correct the settings, or the Solution",
        /// The plan gives rights, or opens things, in more ways than an approver could be told
        TooMuchToTell => "Split the solution, or leave roles and bindings to the target's owner",
        /// A solution with connection references, on a stage that deploys as its owner
        ConnectionReferencesNeedServicePrincipal => "Use a stage with a ServiceAccount as delegate",
        /// The dry run failed, in a way that waiting doesn't mend; the objects are in the message
        DryRunRefused => "See the reason of each object",
        /// The artifact can't be stored or read; why is in the message
        ArtifactRefused => "Raise the version and make a new request",
        /// The stored bytes don't fit their digest
        ArtifactAltered => "Find out who changed them; raise the version",
        /// Retention removed the artifact's bytes: it is only the record of its deployments
        ArtifactBytesRemoved => "Raise the version and make a new request",
        /// The artifact is another one than was planned, or than is being deployed
        ArtifactChanged => "Find out who changed it; raise the version",
        /// The artifact does not exist any more
        ArtifactGone => "Find out who deleted it; raise the version",
        /// Objects could not be applied or deleted; they are in `status.errors`
        ApplyFailed => "See the reason of each object",
        /// An object failed
        Unhealthy => "Look at it in the target, then ask again",
        /// Objects were not healthy within `deployment.timeout`
        DeploymentTimedOut => "Look at them; then ask again, or with a higher version",
        /// It failed, and the operator was interrupted before it could write why
        DeploymentFailed => "See the target",
        /// It failed, and the version before is back, with its settings, and healthy
        RolledBack => "Correct the cause, then ask again",
        /// It failed, and the version before could not be put back, or not all of it. The message says what is in the target
        RollbackFailed => "Correct the cause, then ask again",
        /// The claim was taken out of the Environment while the request deployed, as when that was made again. What was applied stays
        ClaimLost => "Make a new request",
        /// The Environment was deleted while the request deployed. What was applied stays
        EnvironmentGone => "Make a new request",
        /// On the way back: the Environment's record names another artifact than the one that was replaced, so that nothing was put back
        RecordChanged => "Find out who changed the Environment's status; deploy the version that is to run there",
        /// The settings that the version before was deployed with are not known any more: neither its artifact's record nor its request has them, so that it could not be put back
        SettingsGone => "Set `onFailure: Keep` on the stage, or give the request these settings; after a failure, deploy that version again with its settings",

        // Exports.

        /// This version is stored from another development environment, or from another artifact of a registry
        ExportedElsewhere => "Raise the version",
        /// What was recorded of the registry names no repository and digest
        SourceInvalid => "Make a new request",
        /// This version is stored from a registry, and a request that names no source means the development environment
        SourceDiffers => "Raise the version, or name what is stored in `artifact.oci`",
        /// The solution selects no object
        NothingToExport => "Correct its selector or components",
        /// The solution is larger than an artifact may be; or an object, with its settings, is larger than a cluster stores
        TooLarge => "Divide it, or keep what is large in a volume or an image",
        /// A component is of a kind that the cluster doesn't serve
        UnknownComponent => "Correct `components`, or install what serves it",
        /// A component's kind is not in namespaces
        NotNamespaced => "Take it out of `components`",
        /// The object is cluster-scoped, and its kind may not be exported from there, or is not listed for the target
        ClusterScoped => "Leave it out, or have the kind added to `spec.clusterScoped` of the Environment",
        /// The Solution's selector can't be read
        InvalidSelector => "Correct it",
        /// The component's kind is never exported
        NeverExported => "Take it out of `components`",
        /// The object, or the namespace in development, is being deleted; the message says what holds it
        BeingDeleted => "Have whoever set the finalizers finish: it is tried again until the time-out",
        /// An object nests deeper than can be read
        TooDeeplyNested => "Make it flatter, or leave its kind out by the Solution's `components`",
        /// The API server refused to list what is exported; why is in the message
        ExportFailed => "See the message",

        // Registries.

        /// The registry doesn't answer, or answers with an error, a web page or too slowly; since when is in the message
        RegistryUnreachable => "Start it, or let the operator's pods reach it; for an error see its log",
        /// The registry doesn't let that user, or anybody without credentials, read or write the repository
        RegistryUnauthorized => "Let that user pull, and push where the operator keeps artifacts; or correct the credentials",
        /// The credentials aren't there, or can't be read
        CredentialsUnreadable => "Mount the file, or do what the message says about the Secret",
        /// The certificate authority isn't there, isn't PEM, or has no certificate
        CertificateAuthorityUnreadable => "Correct it, or leave it out",
        /// The registry sends its clients for a token to a host that the credentials aren't for
        RegistryRealmNotAllowed => "Add an entry for that host to the credentials",
        /// The registry's quota is used up
        RegistryFull => "Raise it, or remove what is needed no more",
        /// The registry doesn't take the bytes, for a reason that the message names
        RegistryRefused => "Do what the message says",
        /// The operator moves two artifacts at once, and others are before this one
        RegistryBusy => "Wait",
        /// The registry that the operator keeps artifacts in doesn't have it, or not all of it
        RegistryLacksArtifact => "Put it back from a backup, or have a request to the first stage send it again; otherwise raise the version",
        /// The registry leads elsewhere than where it is named, or than to https
        RegistryRedirectRefused => "Name it by the address that it answers at",
        /// The artifact is stored in a registry that this operator was not told of; repository and flag are in the message
        ArtifactStoreNotConfigured => "Start the operator with that flag again",
        /// The pipeline doesn't list the repository, or the operator keeps large artifacts there
        RepositoryNotAllowed => "Add it to the pipeline's `artifactRepositories`, or push elsewhere",
        /// There is no such tag or digest
        ArtifactNotFound => "Push it",
        /// Manifest, config or layer isn't what its digest says
        DigestMismatch => "Push it again",
        /// The artifact is an image, a chart, an index or something else
        WrongMediaType => "Push manifests, as the page on registries says",
        /// A limit for artifacts from a registry is exceeded
        ArtifactTooLarge => "Divide the solution",
        /// The archive holds a link, a device, or a path that is absolute or leads out of its folder
        ArtifactUnsafe => "Push it without",
        /// The archive can't be read
        ArchiveUnreadable => "Push it again",
        /// A file can't be read; file, line and column are named
        ManifestUnreadable => "Correct it and push it again",
        /// A file holds no Kubernetes object, or a kustomization
        NotAManifest => "Leave it out, or push what `kustomize build` prints",
        /// The Solution among the files isn't the one that is asked for
        SolutionDiffers => "Ask for what was pushed, or push what is asked for",
        /// The Solution among the files is not as its kind has it
        SolutionInvalid => "Correct it",
        /// More than one Solution is among the files
        SolutionAmbiguous => "Push one of them",
        /// No file holds an object
        NothingToDeploy => "Push a file named `*.yaml`, `*.yml` or `*.json` with objects",

        // Settings.

        /// A setting is for an environment variable that the solution doesn't declare
        UnknownVariable => "Correct its name, or leave it out",
        /// A required environment variable has no value
        VariableMissing => "Set it in the request",
        /// The value is not of the variable's type
        WrongType => "Correct it",
        /// The field that a setting is written to doesn't exist in the solution
        SettingTargetMissing => "Correct the Solution's definition",
        /// A setting may not be written to that field
        SettingTargetForbidden => "Correct the Solution's definition",
        /// A connection is given that the solution doesn't declare
        UnknownConnectionReference => "Correct its name, or leave it out",
        /// A connection reference has no connection
        ConnectionReferenceMissing => "Set it in the request",
        /// Two connection references would write the same place
        ConnectionReferenceAmbiguous => "Correct the Solution's definition, or the request",

        // Objects: what speaks against a plan, and what failed.

        /// The delegate lacks a right, or the operator lacks the right to act as it
        MissingRights => "Grant it in the target",
        /// Another field manager owns a field that the solution sets
        FieldConflict => "Leave it out of the solution, let its manager give it up, or set `deployment.force` on the stage",
        /// The object was changed, created or deleted by somebody else between the plan and the write. Nothing more was written to it
        ChangedMeanwhile => "Find out who else changes it, then ask again",
        /// A policy or webhook of the target's cluster said no
        DeniedByPolicy => "Change the solution",
        /// A field can't be changed on the object that exists
        ImmutableField => "Give the object another name, or have the existing one deleted",
        /// The manifest doesn't fit the schema
        Invalid => "Correct it, or the setting that the message names, and raise the solution's version",
        /// The namespace, the object or a class that it names doesn't exist, or the cluster doesn't serve the kind
        NotFound => "Look at the Environment; create it, or install what serves the kind",
        /// Anything else
        Failed => "See the message of the API server",
        /// The API server could not be reached, or was overloaded
        ServerUnavailable => "Nothing: the call is repeated",
        /// The `ConfigMap` `pilotage-<solution>`, which records what a solution put there, is somebody else's
        ParentTaken => "Whose the namespace is deletes or renames it, or sets the annotation `pilotage.dev/deployed-from` to this host",
        /// The object was put there by another solution, or by another tool
        OwnedByAnotherSet => "Give it another name",
        /// An object of that name is there and was not put there by this solution
        ExistsAlready => "Give it another name, or have its owner mark it with the command in the message",
        /// A controller makes an object of that name from another one
        MadeByController => "Give it another name",
        /// The kind is in namespaces in one of the two clusters and outside of them in the other
        ScopeDiffers => "Have both define it alike, and raise the version",
        /// The object is of a kind that is never deployed, or a definition of Pilotage's own kinds or one that needs a webhook
        NeverDeployed => "Leave it out",
        /// The object, or what it names, has a name that Kubernetes doesn't allow
        InvalidName => "Correct the setting, or the manifest",
        /// The target's cluster doesn't serve the kind
        KindNotFound => "Install what serves it; a definition that comes with the solution goes in a version before its objects",
        /// The object is in the solution more than once
        Duplicate => "Keep one of them",
        /// The object lacks what every object has, as a kind or a name
        Malformed => "Correct the manifest, and raise the version",
        /// The object is a Secret, and Secrets are never deployed
        SecretNotAllowed => "Declare a connection reference, and create the Secret in the target",
        /// The object's name is one that Pilotage keeps for itself
        ReservedName => "Give it another name",
        /// Objects are for different namespaces, or for another one than the solution's
        OtherNamespace => "Leave `metadata.namespace` out, or make two solutions of them",
        /// The claim on the target doesn't fit the plan. Nothing was written
        ClaimMismatch => "Make a new request",
        /// Another operator has taken over, or the claim is gone. Nothing more was written
        Fenced => "Nothing: who took over goes on",
        /// The object was applied, and somebody deleted it, or took its label, since
        Missing => "Find out who",
        /// The object was not ready in time
        NotCurrentInTime => "Look at it in the target, then ask again",

        // Plans: what the approver is to know.

        /// The operator may not list these kinds in development, so that objects of them may be missing in the version
        NotLookedFor => "Bind the operator a role that lists them there, and raise the version",
        /// What goes with its data: claims, `StatefulSets` that delete their claims, custom resources with finalizers
        DeletesData => "Approve only if the data may go",
        /// The version is lower than the one it replaces
        Downgrade => "Approve only if that is meant",
        /// Objects that an earlier version put there and this one doesn't have are deleted
        Deletes => "",
        /// Objects are deleted and created anew, as a field of theirs can't be changed
        Recreates => "",
        /// Objects of the target's owner are changed, as the owner marked them for that
        Adopts => "",
        /// Objects that an earlier version adopted are given back
        Releases => "",
        /// An object that an earlier version adopted would not be valid without what the solution set: it stays as it is
        StaysAdopted => "Its owner takes it back with the command in the message",
        /// `CustomResourceDefinitions` are deleted, and with them all objects of their kinds in the whole cluster
        DeletesKinds => "Approve only if they may go",
        /// Kinds of the whole cluster that earlier versions brought and the Environment doesn't list any more stay there
        LeftAlone => "List them again until a deployment has deleted what is not needed",
        /// Cluster-scoped objects are created or changed
        InWholeCluster => "",
        /// Node ports are left out that development has in the same cluster; the API server chooses others
        NodePortsLeft => "For a certain one set it by a setting",
        /// A Role, a binding, or both give rights; all who get them are named
        GivesRights => "Approve only if they may have them",
        /// More things are opened than have an entry of their own
        Opens => "As for the entries that are",
        /// A `ServiceAccount` that is created has a name to which bindings of the target give rights already
        BoundAlready => "Ask the target's owner whether they are meant for it",
        /// Pods have the node's network, processes, paths, ports or more capabilities
        RunsPrivileged => "Approve only if that is meant",
        /// An account, or a token, is for somebody in a cloud
        CloudRole => "Approve only if that is meant",
        /// An annotation holds text that an ingress controller runs
        Snippet => "Approve only if that is meant",
        /// External IPs, external names or endpoints by hand take traffic of others, or lead it elsewhere
        TakesTraffic => "Approve only if that is meant",
        /// Load balancers, or network policies that let everybody in or everything out
        OpensNetwork => "Approve only if that is meant",
        /// Autoscalers, budgets, policies or Services of pods that the solution doesn't make
        ReachesOthers => "Approve only if that is meant",
        /// A claim asks for a certain volume
        BindsVolume => "Approve only if that is meant",
        /// Fields are called like references to Secrets or `ServiceAccounts`, or refer to other namespaces, and were not looked for
        MayUse => "Ask who wrote it, where that is not meant",
        /// Optional Secrets that are not there are used from when somebody makes them
        UsesOnceThere => "",
        /// A claim of the target is mounted that doesn't come with the solution
        MountsData => "Approve only if that is meant",
        /// More of the target is used than fits into the plan's `access`
        UsesMore => "",
        /// A quota counts what the containers of a workload don't say
        QuotaNeedsResources => "Say it in the solution, or have the target set defaults",
        /// The delegate may not list quotas in the target
        QuotaNotLookedAt => "Grant it `list` on `resourcequotas`",
        /// The target's API server warns of the object in the dry run
        ServerWarning => "See the message",
        /// The workload's own spec pauses or suspends it: it does nothing
        Paused => "Resume it where that is not meant",
        /// A Job of the replaced version is not in the new one; it may have removed itself in development
        JobGone => "Apply it again there and raise the version",
        /// Others added fields to objects of the solution; they stay
        ForeignField => "Take them away in the target where they are not meant",
    }
}
